"""What the nodes of runs said: of one run, live, and searched for in all of them."""
