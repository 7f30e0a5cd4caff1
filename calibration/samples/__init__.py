"""What is kept of a machine: its inventory, its samples, lines of JSON; and how a script ends that cannot read them."""
