"""The commands that read the configuration of this host themselves. Those that ask a running gateway are in
`gateway.operator`."""
