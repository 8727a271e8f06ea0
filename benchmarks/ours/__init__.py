"""What is measured: the library, as a service uses it: public names and default settings."""
