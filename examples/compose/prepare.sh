#!/bin/sh
# Makes made/<container>/ for each container of compose.yaml: its certificate, the passwords and its settings. Once.
set -eu
cd "$(dirname "$0")"
if [ -e made ]; then
    echo "made/ is there already" >&2
    exit 1
fi
umask 077
authority=../several-machines/make-certificates.sh
mkdir made
for secret in superuser replication rest; do openssl rand -hex 24 >"made/$secret.secret"; done

for name in etcd1 etcd2 etcd3; do
    "$authority" made/authority "$name" 127.0.0.1
    mkdir "made/$name"
    cp made/authority/ca.crt "made/authority/$name.crt" "made/authority/$name.key" "made/$name/"
done
for name in g0-n1 g0-n2 g1-n1 g1-n2 gateway; do
    "$authority" made/authority "$name" 127.0.0.1
    mkdir "made/$name"
    cp made/authority/ca.crt made/*.secret "made/$name/"
    cp "made/authority/$name.crt" "made/$name/machine.crt"
    cp "made/authority/$name.key" "made/$name/machine.key"
done
for name in g0-n1 g0-n2 g1-n1 g1-n2; do
    group=${name%-*}
    { printf 'group = %s\nname = "%s"\nhost = "%s"\n' "${group#g}" "$name" "$name"; cat node.toml; } >"made/$name/$name.toml"
done
cp gateway.toml made/gateway/
cp made/g0-n1/g0-n1.toml made/gateway/ # for pgherd init, status and the like
# in the image, postgres is user 999; etcd runs as root in its own
if [ "$(id -u)" = 0 ]; then
    for name in g0-n1 g0-n2 g1-n1 g1-n2 gateway; do chown -R 999:999 "made/$name"; done
fi
