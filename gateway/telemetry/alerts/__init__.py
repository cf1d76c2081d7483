"""What a person should know without having asked.

rules     which conditions hold, by the facts of a check
alerts    the alerts that are active or over
check     the check in the background
webhook   alerts on their way to somebody's HTTP endpoint
"""
