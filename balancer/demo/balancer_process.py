"""One balancer replica of the demo: the same service that `balancer serve` runs."""

from __future__ import annotations

from balancer.demo.child import arguments
from balancer.service import Service


def main() -> None:
    """Serve until SIGTERM."""
    said = arguments()
    Service(said["url"], said["pool"]).run()


if __name__ == "__main__":
    main()
