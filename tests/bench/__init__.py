"""Time and memory of whole processes, beside a peer in the same run. Numbers are printed, never asserted."""
