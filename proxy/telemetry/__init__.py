"""What the gateway tells its operator: the access log and the program's own log, with secrets left out."""
