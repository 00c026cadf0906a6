"""What ails a cluster, found before a job finds it: checks on every node, each finding with its fix."""
