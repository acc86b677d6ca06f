"""What users would run instead of audit-exporter: each a process of its own, and as it comes."""
