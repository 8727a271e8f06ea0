"""What threads and signal handlers need to get along; nothing here knows of messages."""
