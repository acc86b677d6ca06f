"""What a command answers: tables for people, JSON for machines, from the same values."""
