"""Programs that people have speak through the service, unmodified, against a real server process."""
