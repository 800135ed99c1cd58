"""Upload a trained adapter to the hub: `python -m spt.push run=<run or adapter> repository=user/name`."""

from omegaconf import DictConfig

from spt.command import command


@command("push")
def main(config: DictConfig) -> None:
    """Upload the adapter's files and its card, and print the address."""
    from spt.adapters.hub import push_adapter
    from spt.console import logged
    from spt.errors import check_flag

    check_flag("private", config.private)
    with logged():
        print(push_adapter(config.run, str(config.repository), config.private))


if __name__ == "__main__":
    main()
