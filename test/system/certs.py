"""Certificates for tests, made by openssl(1) in a folder of the test's own."""
import os
import shutil
import subprocess

from system import Skip, temporary_folder


def openssl(folder, *words):
    r = subprocess.run(["openssl", *words], cwd=folder, capture_output=True, text=True)
    if r.returncode:
        raise AssertionError(f"openssl {' '.join(words)}: {r.stderr}")


class Authority:
    """A CA; ca.pem is its certificate."""

    def __init__(self, name="ca"):
        if not shutil.which("openssl"):
            raise Skip("needs openssl")
        self.folder = temporary_folder()
        self.name = name
        self.ca = os.path.join(self.folder, f"{name}.pem")
        self.serial = 1
        openssl(self.folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                f"{name}.key", "-out", f"{name}.pem", "-days", "30", "-subj", f"/CN=Test {name}")

    def issue(self, name, names, expired=False):
        """(certificate, key): paths. names: as subjectAltName has them, "DNS:example.com,IP:127.0.0.1"."""
        openssl(self.folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key",
                "-out", f"{name}.req", "-subj", f"/CN={name}")
        with open(os.path.join(self.folder, f"{name}.ext"), "w") as f:
            f.write(f"subjectAltName={names}\n")
        # A certificate of 0 days is over at once.
        openssl(self.folder, "x509", "-req", "-in", f"{name}.req", "-CA", f"{self.name}.pem", "-CAkey", f"{self.name}.key",
                "-set_serial", str(self.serial), "-out", f"{name}.pem", "-days", "-1" if expired else "30", "-extfile",
                f"{name}.ext")
        self.serial += 1
        return os.path.join(self.folder, f"{name}.pem"), os.path.join(self.folder, f"{name}.key")
