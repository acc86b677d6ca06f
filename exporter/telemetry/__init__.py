"""What a running exporter tells: progress bars to a person, JSON log lines to a machine."""
