"""The state of a service over HTTP: for probes, for Prometheus and, as a page, for people."""
