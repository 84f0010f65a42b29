"""The licence texts of what is linked into the executables: `cargo metadata` on stdin, one text on stdout.

Each text is printed once, with the names and versions of the packages that carry it. A package that carries none is named
with its licence expression.
"""
import json
import pathlib
import sys

metadata = json.load(sys.stdin)
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}

# What is reached by normal dependencies from the workspace's own packages; build scripts and tests are not shipped.
linked, reached = set(), list(metadata["workspace_members"])
while reached:
    one = reached.pop()
    if one not in linked:
        linked.add(one)
        for dep in nodes[one]["deps"]:
            if any(kind["kind"] is None for kind in dep["dep_kinds"]):
                reached.append(dep["pkg"])

texts, without = {}, []
for package in sorted((packages[one] for one in linked - set(metadata["workspace_members"])), key=lambda p: (p["name"], p["version"])):
    name = f"{package['name']} {package['version']} ({package['license'] or 'see below'})"
    here = pathlib.Path(package["manifest_path"]).parent
    files = sorted(f for f in here.iterdir() if f.is_file() and f.name.upper().startswith(("LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE")))
    for file in files:
        texts.setdefault(file.read_text("utf-8", "replace").strip(), []).append(name)
    if not files:
        without.append(name)
if not texts:
    sys.exit("no licence text was found: has cargo fetched the sources?")

print("opensvc-actions holds these libraries; each is under its own licence.")
for text, names in texts.items():
    print("\n" + "=" * 78 + "\n" + "\n".join(dict.fromkeys(names)) + "\n" + "-" * 78 + "\n" + text)
print("\n" + "=" * 78 + "\nWithout a text of their own:\n" + "\n".join(without))
