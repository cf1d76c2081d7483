"""What a person should know without having asked: the alerts, the check that raises them, and who is told."""
