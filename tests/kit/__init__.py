"""Real servers, stand-ins and instruments that tests are made with; no promise of the product is here."""
