"""Serves HTTP on the listener it was given, and ends when nobody asks for ten seconds."""
import http.server
import os
import socket
import sys

if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
    sys.exit("start me by socket activation")


class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"hello from process %d\n" % os.getpid()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(http.server.HTTPServer):
    idle = False

    def handle_timeout(self):
        self.idle = True


server = Server(("", 0), Hello, bind_and_activate=False)
server.socket = socket.socket(fileno=3)
server.timeout = 10
while not server.idle:
    server.handle_request()
