"""The parts of a service: its core, configuration, connections, sending and consumers."""
