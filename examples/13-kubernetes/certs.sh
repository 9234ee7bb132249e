#!/bin/sh
# Makes an authority and two certificates, and with them the secrets buildkit-daemon and buildkit-client: ./certs.sh [flags of kubectl]
# The client's files stay in the folder certs, the authority's key with them: keep it safe or delete it.
set -eu
mkdir -p certs
cd certs
umask 077
authority="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -x509 -days 3650 -subj /CN=buildkit-authority"
[ -e ca.key ] || openssl req $authority -keyout ca.key -out ca.pem
for who in daemon client; do
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=buildkit-$who" -keyout $who.key -out $who.csr
  case $who in
    daemon) printf 'subjectAltName=DNS:buildkit,DNS:localhost,IP:127.0.0.1,DNS:buildkit-amd64,DNS:buildkit-arm64\nextendedKeyUsage=serverAuth\n' ;;
    client) printf 'extendedKeyUsage=clientAuth\n' ;;
  esac > $who.ext
  openssl x509 -req -in $who.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 365 -extfile $who.ext -out $who.pem
  kubectl "$@" create secret generic buildkit-$who --from-file=ca.pem --from-file=cert.pem=$who.pem --from-file=key.pem=$who.key
  rm $who.csr $who.ext
done
