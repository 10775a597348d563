"""Makes `.typing/textpro`, a folder of links that shows the mapped folders as one package to type checkers.

`pyproject.toml` maps the folders at the root of the repository into the package (`textpro.agent` = `agent/`),
which setuptools understands and type checkers do not. Each folder of the mapping and each file of the
package's own folder becomes one relative link; what is right is left alone and what is stale is removed.
"""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def wanted_links(root: Path) -> dict[str, str]:
    """The link names inside `.typing/textpro` and what each points to, relative to that folder."""
    with (root / "pyproject.toml").open("rb") as file:
        mapping = tomllib.load(file)["tool"]["setuptools"]["package-dir"]
    links = {}
    for package, folder in mapping.items():
        _, _, name = package.partition(".")
        if name:
            links[name] = f"../../{folder}"
        else:
            for entry in sorted((root / folder).iterdir()):
                if entry.name != "__pycache__":
                    links[entry.name] = f"../../{folder}/{entry.name}"
    return links


def make_links(root: Path) -> None:
    """Brings `root/.typing/textpro` into step with `pyproject.toml`."""
    links = wanted_links(root)
    target = root / ".typing" / "textpro"
    target.mkdir(parents=True, exist_ok=True)
    for entry in target.iterdir():
        if not entry.is_symlink():
            raise SystemExit(f"{entry} is not a link; this folder is generated: remove it and run again")
        if links.get(entry.name) != str(entry.readlink()):
            entry.unlink()
    for name, destination in links.items():
        link = target / name
        if not link.is_symlink():
            link.symlink_to(destination)


if __name__ == "__main__":
    make_links(ROOT)
