"""From a configuration to pyramids: where they lie, their scales and steps."""
