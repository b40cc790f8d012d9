"""The running process: JAX's backend, forks, signals, standard streams."""
