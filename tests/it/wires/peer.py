"""A 1.x/2.x collector as python itself would have it: xmlrpc.server and json, over TLS, with one row."""

import http.server
import json
import ssl
import sys
import xmlrpc.client
import xmlrpc.server

certificate, key, uuid, node, command = sys.argv[1:]
row = {
    "id": 628,
    "status": "W",
    "ret": None,
    "command": command,
    "stdout": "]]> \r\n é € <&>",
    "stderr": None,
    "date_queued": "20261121T07:51:20",
    "date_dequeued": None,
    "node_id": "5c977246-0562-11e6-8c70-7e9e6cf13c8a",
    "svc_id": "aaaaaaaa-0562-11e6-8c70-7e9e6cf13c8a",
    "action_type": "pull",
    "connect_to": None,
    "svcname": "svc1",
}
is_json = False


def authorized(auth):
    if auth != [uuid, node]:
        raise Exception("agent authentication error")


def collector_get_action_queue_v2(_, auth):
    authorized(auth)
    if row["status"] not in "WN":
        return []
    sent = dict(row)
    if not is_json:
        sent["date_queued"] = xmlrpc.client.DateTime(row["date_queued"])
    row["status"] = "S"
    return [sent]


def collector_update_action_queue_received(ids, auth):
    authorized(auth)
    print(json.dumps({"received": ids}), flush=True)


def collector_update_action_queue(results, auth):
    authorized(auth)
    print(json.dumps({"results": results}), flush=True)


class Json(dict):
    def answer(self, body):
        call = json.loads(body)
        answer = {"jsonrpc": "2.0", "id": call["id"]}
        try:
            answer["result"] = self[call["method"]](*call["params"])
        except Exception as error:
            data = "%s: %s\nFalse" % (type(error).__name__, error)
            answer["error"] = {"code": -32099, "message": "Server error", "data": data}
        return json.dumps(answer).encode()


xml = xmlrpc.server.SimpleXMLRPCDispatcher(allow_none=True)
by_name = Json()
for function in (
    collector_get_action_queue_v2,
    collector_update_action_queue_received,
    collector_update_action_queue,
):
    xml.register_function(function)
    by_name[function.__name__] = function


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        global is_json
        is_json = self.path == "/feed/default/call/jsonrpc2"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kind = self.headers["Content-Type"]
        assert kind == ("application/json" if is_json else "text/xml"), kind
        answer = by_name.answer(body) if is_json else xml._marshaled_dispatch(body)
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
print(json.dumps({"port": server.server_port}), flush=True)
server.serve_forever()
