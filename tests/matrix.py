#!/usr/bin/python3
"""Runs real servers in the sandboxes of config/services.d.

    matrix.py RUNNER [--preset none|standard|strict] [--matrix FILE] [--unpack-dir DIR] [--keep] [NAME ...]

RUNNER is the folder of the compatibility matrix: run-matrix.py, which installs,
starts and questions a server in namespaces of its own, and matrix.toml. What is
run and on which port comes from there; how it is confined, and as whom it runs, comes
from config/services.d/NAME.toml, word for word: every key of REFINEMENTS.

The matrix keeps its files in a scratch directory below /tmp, and what cannot be
installed beside other packages below an unpack directory. These two places
are added to a sandbox, and nothing else: no mechanism is loosened, no
capability, system call or network is given that the file does not give. Places
that the file names and this host does not have are left out of it, which
only makes the sandbox smaller. Where the file has another user than the matrix prepares
its files for, the scratch directory is opened for everybody, by chmod.

--preset takes a bare preset instead of the file, to see what it costs.

USHERD names the program to test. Needs what run-matrix.py needs, root above all.
Prints NAME PASS|FAIL|SKIP REASON for each, and ends with 1 if one failed.
"""
import argparse
import importlib.util
import json
import os
import pwd
import subprocess
import sys
import tomllib

HERE = os.path.dirname(os.path.abspath(__file__))
SHIPPED = os.path.join(HERE, "..", "config", "services.d")

# Keys by which a file of services.d says how a server is confined.
REFINEMENTS = ("user", "group", "groups", "isolation", "limits", "resources", "state", "credentials", "umask", "nice",
               "oom_score", "stderr", "pam")
PLACES = ("visible", "writable", "hidden")


def load_runner(folder):
    """The runner as a module. It starts itself anew inside of an entry's
    namespaces, by its __file__; that has to be us."""
    spec = importlib.util.spec_from_file_location("runner", os.path.join(folder, "run-matrix.py"))
    runner = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(runner)
    runner.__file__ = os.path.abspath(__file__)
    runner.BACKENDS["usherd"] = backend(runner)
    return runner


def shipped(name):
    """The one service of NAME.toml."""
    path = os.path.join(SHIPPED, name + ".toml")
    if not os.path.exists(path):
        sys.exit("there is no config/services.d/" + name + ".toml")
    with open(path, "rb") as file:
        services = list(tomllib.load(file)["service"].values())
    if len(services) != 1 or services[0].get("enabled") is not False:
        sys.exit(name + ".toml has to have one service, with enabled = false")
    return services[0]


def places_added(isolation, job, unpacked):
    """`isolation` with the places of the matrix in it, as a table."""
    table = {"preset": isolation} if isinstance(isolation, str) else dict(isolation)
    if table.get("preset") == "none":
        return table
    for key in PLACES:
        table[key] = [path for path in table.get(key, []) if os.path.exists(path)]
    table["writable"].append(job.d)
    if any(unpacked in arg for arg in job.argv):
        table["visible"].append(unpacked)
    return table


def is_account(user):
    """The account of a package that is only unpacked is missing: then the matrix has one."""
    try:
        return user == "dynamic" or bool(pwd.getpwnam(user))
    except KeyError:
        return False


def word(value):
    """A value as TOML has it, on one line."""
    if isinstance(value, dict):
        return "{ %s }" % ", ".join("%s = %s" % (json.dumps(key), word(value[key])) for key in value)
    if isinstance(value, list):
        return "[%s]" % ", ".join(word(one) for one in value)
    return json.dumps(value)


def backend(runner):
    class Confined(runner.Usherd):
        """usherd with the sandboxes that it ships."""

        def table(self, job):
            preset = os.environ.get("MATRIX_PRESET")
            service = shipped(job.name)
            if preset:
                service = {"isolation": preset, "user": job.user, "group": job.group}
            keys = {key: service[key] for key in REFINEMENTS if service.get(key) is not None}
            if not is_account(keys["user"]):
                keys["user"] = job.user
            if keys["user"] != job.user:
                subprocess.check_call(["chmod", "-R", "a+rwX", job.d])
            keys["isolation"] = places_added(keys.get("isolation", "standard"), job, self.u)
            if job.rpc:
                keys["listen"] = "rpc-%s:%s/%s" % (job.proto, job.rpc["number"], job.rpc["versions"])
            else:
                keys["listen"] = "%s:%s:%d" % (job.proto, runner.HOST, job.port)
            # accept = true: the server wants the connection, whatever else the entry says.
            keys["wait"] = job.wait and not job.e.get("accept", False)
            keys |= {"exec": job.argv, "activation": job.activation, "env": service.get("env", {}) | job.env}
            if job.argv0:
                keys["argv0"] = job.argv0
            lines = ["%s = %s" % (key, word(value)) for key, value in keys.items()]
            return "\n".join(['[daemon]', 'user = "nobody"', "", "[service.%s]" % json.dumps(job.name), *lines, ""])

    return Confined


def main():
    sys.dont_write_bytecode = True  # RUNNER is not ours
    if "--inside" in sys.argv:
        return load_runner(os.environ["MATRIX_RUNNER"]).main()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runner")
    parser.add_argument("--preset", choices=("none", "standard", "strict"))
    known, rest = parser.parse_known_args()
    os.environ["MATRIX_RUNNER"] = os.path.abspath(known.runner)
    if known.preset:
        os.environ["MATRIX_PRESET"] = known.preset
    sys.argv = [sys.argv[0], "--backend", "usherd"]
    if "--matrix" not in rest:
        sys.argv += ["--matrix", os.path.join(known.runner, "matrix.toml")]
    sys.argv += rest
    return load_runner(known.runner).main()


if __name__ == "__main__":
    sys.exit(main())
