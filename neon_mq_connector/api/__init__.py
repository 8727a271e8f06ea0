"""The public methods of connectors, which delegate to what is in `service`; they keep no state."""
