"""Writes the Homebrew formula of a release: VERSION, the workspace's Cargo.toml, SHA256SUMS."""

import re
import sys

# What Homebrew calls the machines that there are archives for.
MACHINES = {
    "aarch64-apple-darwin": ("on_macos", "on_arm"),
    "x86_64-unknown-linux-gnu": ("on_linux", "on_intel"),
}


def main(version, manifest, sums):
    with open(manifest, encoding="utf-8") as file:
        home = re.search(r'^repository = "(.*)"$', file.read(), re.M)[1]
    checksums = {}
    with open(sums, encoding="utf-8") as file:
        for line in file:
            digest, name = line.split()
            checksums[name.lstrip("*")] = digest
    parts = []
    for target, (system, processor) in MACHINES.items():
        name = f"mixlab-cli-v{version}-{target}.tar.gz"
        if name in checksums:
            parts.append(f"""  {system} do
    {processor} do
      url "{home}/releases/download/v{version}/{name}"
      sha256 "{checksums[name]}"
    end
  end
""")
    if not parts:
        sys.exit(f"formula: no archive of version {version} in {sums}\n  hint: run .ci/release first")
    print(f"""class MixlabCli < Formula
  desc "Explore language-model architectures from one JSON file"
  homepage "{home}"
  version "{version}"
  license "MIT"

{"".join(parts)}
  def install
    bin.install "mixlab-cli"
    man1.install Dir["man/*.1"]
    bash_completion.install "completions/mixlab-cli.bash" => "mixlab-cli"
    zsh_completion.install "completions/mixlab-cli.zsh" => "_mixlab-cli"
    fish_completion.install "completions/mixlab-cli.fish"
    pkgshare.install "examples"
  end

  test do
    assert_match "PASS", shell_output("#{{bin}}/mixlab-cli smoke --backend cpu")
  end
end""")


main(*sys.argv[1:])
