"""What the library promises, while the network and the broker break their promises."""
