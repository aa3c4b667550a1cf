"""Takes orders of customers, one a line, and has done what it may not do itself.

    new NAME        a user web-NAME for a customer
    ban ADDRESS     nothing from there for ten minutes
    backup          a copy of this server's own state
    backups         which there are
    try OPERATION {"name": "value"}    anything else, to see it refused
"""

import json
import os
import socket
import sys


def run(operation, **parameters):
    """Asks usherd: a JSON object each way, ended by a NUL (https://varlink.org)."""
    call = {
        "method": "org.usherd.Admin.Run",
        "parameters": {"operation": operation, "parameters": parameters},
    }
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(os.environ["USHERD_ADMIN_SOCKET"])
        link.sendall(json.dumps(call).encode() + b"\0")
        reply = b""
        while not reply.endswith(b"\0"):
            more = link.recv(65536)
            if not more:
                return "no answer"
            reply += more
    reply = json.loads(reply[:-1])
    if "error" in reply:
        told = reply.get("parameters", {})
        return f"refused: {reply['error'].rsplit('.', 1)[-1]}: {told.get('reason', told)}"
    return json.dumps(reply["parameters"]["result"])


def carry_out(line):
    order, _, rest = line.partition(" ")
    if order == "new":
        return run("user.create", name=f"web-{rest}", shell="/usr/sbin/nologin")
    if order == "ban":
        return run("firewall.ban", **{"prefix": rest, "for": "10m"})
    if order == "backup":
        with open(os.path.join(os.environ["STATE_DIRECTORY"], "seen"), "a") as seen:
            seen.write("a backup was asked for\n")
        return run("backup.create")
    if order == "backups":
        return run("backup.list")
    if order == "try":
        operation, _, parameters = rest.partition(" ")
        return run(operation, **json.loads(parameters or "{}"))
    return "new NAME, ban ADDRESS, backup, backups, or try OPERATION PARAMETERS"


for line in sys.stdin:
    print(carry_out(line.strip()), flush=True)
