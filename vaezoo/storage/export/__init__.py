"""Models as programs of other runtimes."""
