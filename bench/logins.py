"""Do password log-ins hold up other requests? Validates a token over one connection, one request after the other, first alone and then
while other connections log in by password without pause. One JSON line per figure; standard library only.
usage: logins.py [LOG-INS AT ONCE] [SECONDS]        needs the cloud's openrc in the environment"""
import http.client
import json
import multiprocessing
import os
import ssl
import sys
import time
import urllib.parse

URL = urllib.parse.urlsplit(os.environ["OS_AUTH_URL"])
BODY = json.dumps({"auth": {
    "identity": {"methods": ["password"], "password": {"user": {
        "name": os.environ["OS_USERNAME"], "domain": {"name": "Default"}, "password": os.environ["OS_PASSWORD"]}}},
    "scope": {"project": {"name": os.environ["OS_PROJECT_NAME"], "domain": {"name": "Default"}}}}})


def connect():
    context = ssl.create_default_context(cafile=os.environ["OS_CACERT"])
    return http.client.HTTPSConnection(URL.hostname, URL.port, context=context, timeout=300)


def login(connection):
    connection.request("POST", URL.path + "/auth/tokens", BODY, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 201, answer.status
    return answer.getheader("X-Subject-Token")


def log_in_forever(count):
    connection = connect()
    while True:
        login(connection)
        with count.get_lock():
            count.value += 1


def validate(token, seconds):
    """Latencies in milliseconds."""
    connection, took = connect(), []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        connection.request("GET", URL.path + "/auth/tokens", headers={"X-Auth-Token": token, "X-Subject-Token": token})
        answer = connection.getresponse()
        answer.read()
        took.append((time.perf_counter() - began) * 1000)
        assert answer.status == 200, answer.status
    return sorted(took)


def report(name, took, **more):
    at = lambda share: round(took[min(len(took) - 1, int(len(took) * share))], 2)
    print(json.dumps({"figure": name, "unit": "ms", "n": len(took), "p50": at(0.5), "p99": at(0.99), "max": round(took[-1], 2), **more}))


def main(at_once=50, seconds=10):
    token = login(connect())
    validate(token, 1)
    report("validation_alone", validate(token, seconds))
    count = multiprocessing.Value("l", 0)
    people = [multiprocessing.Process(target=log_in_forever, args=(count,), daemon=True) for _ in range(at_once)]
    for person in people:
        person.start()
    while count.value < at_once:
        time.sleep(0.1)
    before = count.value
    took = validate(token, seconds)
    rate = (count.value - before) / seconds
    report("validation_beside_logins", took, logins_at_once=at_once, logins_per_second=round(rate, 1))
    for person in people:
        person.terminate()


main(*map(int, sys.argv[1:]))
