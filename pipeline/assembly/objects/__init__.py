"""From a configuration to objects: their steps, features, sizes and classes."""
