"""`python -m balancer`: the same as the `balancer` command."""

from balancer.cli import main

main()
