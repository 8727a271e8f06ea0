"""Messages from dicts, and their way to where a service asks for: a queue or an exchange."""
