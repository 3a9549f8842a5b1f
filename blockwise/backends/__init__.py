"""Where blocks are computed: one interface, several places."""
