"""A network of a test's own: a namespace behind a veth pair, which nftables can cut off without a word. Needs root."""
import os
import shutil
import subprocess

from system import Skip

count = 0


def sh(*words, check=True):
    r = subprocess.run([str(w) for w in words], capture_output=True, text=True)
    if check and r.returncode:
        raise AssertionError(f"{' '.join(map(str, words))}: {r.stderr.strip()}")
    return r


class Network:
    """`here` is our address, `there` that of the hosts in the namespace."""

    def __init__(self):
        global count
        if os.geteuid() != 0:
            raise Skip("needs root, for network namespaces")
        for tool in ("ip", "nft"):
            if not shutil.which(tool):
                raise Skip(f"needs {tool}")
        count += 1
        number = (os.getpid() * 4 + count) % 16000
        self.name = f"hf{os.getpid()}x{count}"
        self.link, peer = f"hfa{number}", f"hfb{number}"
        net = f"10.{200 + number // 4096}.{number // 16 % 256}.{number % 16 * 16}"
        base = net.rsplit(".", 1)
        self.here, self.there = f"{base[0]}.{int(base[1]) + 1}", f"{base[0]}.{int(base[1]) + 2}"
        if sh("ip", "netns", "add", self.name, check=False).returncode:
            raise Skip("network namespaces cannot be made here")
        try:
            sh("ip", "link", "add", self.link, "type", "veth", "peer", "name", peer, "netns", self.name)
            sh("ip", "addr", "add", f"{self.here}/28", "dev", self.link)
            sh("ip", "link", "set", self.link, "up")
            self.inside("ip", "addr", "add", f"{self.there}/28", "dev", peer)
            self.inside("ip", "link", "set", peer, "up")
            self.inside("ip", "link", "set", "lo", "up")
        except AssertionError:
            self.remove()
            raise

    def inside(self, *words, check=True):
        return sh("ip", "netns", "exec", self.name, *words, check=check)

    def cut(self, rule=""):
        """Drops what goes both ways, or only what `rule` (nft) matches: no FIN, no RST, no ICMP."""
        table = f"hf_{self.name}"
        sh("nft", f"add table inet {table}; "
           f"add chain inet {table} in {{ type filter hook input priority 0; }}; "
           f"add chain inet {table} out {{ type filter hook output priority 0; }}; "
           f"add rule inet {table} in iifname {self.link} {rule} drop; "
           f"add rule inet {table} out oifname {self.link} {rule} drop")

    def mend(self):
        sh("nft", "delete", "table", "inet", f"hf_{self.name}", check=False)

    def remove(self):
        self.mend()
        sh("ip", "link", "del", self.link, check=False)
        sh("ip", "netns", "del", self.name, check=False)
