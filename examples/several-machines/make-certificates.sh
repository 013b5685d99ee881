#!/bin/sh
# Makes a certificate for one machine, and at first the small authority (ca.key, ca.crt) that signs it.
#
#     make-certificates.sh DIRECTORY NAME ADDRESS...      for example: make-certificates.sh certificates db1 10.0.0.1
#
# NAME and each ADDRESS (IP addresses) are what others may call the machine. ca.key never leaves DIRECTORY; a machine gets ca.crt and its own two files.
set -eu
directory=$1 name=$2
shift 2
umask 077
mkdir -p "$directory"
cd "$directory"

if [ ! -f ca.key ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj "/CN=pgherd authority" \
        -addext "keyUsage=critical,keyCertSign,cRLSign" -keyout ca.key -out ca.crt 2>/dev/null
fi

names="DNS:$name"
for address in "$@"; do names="$names,IP:$address"; done
# each machine is server and client: to PostgreSQL, Patroni and etcd alike
printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\nkeyUsage=critical,digitalSignature\nbasicConstraints=critical,CA:false\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n' \
    "$names" >"$name.extensions"
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$name" -keyout "$name.key" -out "$name.request" 2>/dev/null
openssl x509 -req -in "$name.request" -CA ca.crt -CAkey ca.key -CAcreateserial -days 825 -extfile "$name.extensions" -out "$name.crt" 2>/dev/null
rm "$name.request" "$name.extensions"
openssl verify -CAfile ca.crt "$name.crt"
