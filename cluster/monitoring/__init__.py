"""What Prometheus and Grafana show of a run: the list of metrics, and the files that are made from it."""
