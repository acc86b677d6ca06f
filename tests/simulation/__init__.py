"""Models and simulations of the whole; they hold no test themselves."""
