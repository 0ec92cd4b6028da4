#!/usr/bin/env python3
"""Does what a person does who finds every suggestion in a Label Studio project right: each becomes an annotation, and gold.

    python3 scripts/accept_suggestions.py URL TOKEN PROJECT
"""

import json
import sys
import urllib.request

url, token, project = sys.argv[1:]


def call(method, path, body=None):
    headers = {"Authorization": f"Token {token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url + path, data, headers, method=method), timeout=60) as answer:
        return json.load(answer)


tasks = call("GET", f"/api/tasks/?project={project}&fields=all&page_size=100000")["tasks"]
for task in tasks:
    prediction = task["predictions"][-1]
    annotation = {"result": prediction["result"], "parent_prediction": prediction["id"], "ground_truth": True}
    call("POST", f"/api/tasks/{task['id']}/annotations/", annotation)
print(f"{len(tasks)} suggestions accepted")
