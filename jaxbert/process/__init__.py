"""The process that this runs in: JAX's backend, forks, signals, standard streams."""
