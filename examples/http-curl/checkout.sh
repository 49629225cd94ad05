#!/bin/bash
# SPDX-License-Identifier: PostgreSQL
#
# A shop's checkout over HTTP, by curl and jq.
#
# Reads requests from standard input and prints an answer to each: see
# ../README.md.  GATEWAY_URL names the gateway, GATEWAY_TOKEN is its access
# token.

set -u

pieces_max=5 # the shop's own rule: of one product in an order
file=$(mktemp)
trap 'rm -f "$file"' EXIT

# Posts JSON: PATH BODY HEADER...  Leaves status and answer.
#
# curl repeats a request that had no answer, or 429 or 503, after Retry-After.
# Without an answer it is unknown whether the request took effect: the same
# request, with the same order and key, takes effect once.  The token is in no
# command line, which every user of the machine could read.
post()
{
	local path=$1 body=$2
	shift 2

	status=$(curl --silent --show-error --max-time 60 \
		--retry 8 --retry-all-errors --retry-connrefused \
		--header @<(printf 'Authorization: Bearer %s\n' "$GATEWAY_TOKEN") \
		--header 'Content-Type: application/json' "$@" \
		--data-binary @- --output "$file" --write-out '%{http_code}' \
		"$GATEWAY_URL$path" <<<"$body") || exit 1
	answer=$(<"$file")
}

escape() { jq --null-input --raw-output --arg text "$1" '$text | @uri'; }

# What to tell the customer; the type says what it is about.
refusal()
{
	jq --raw-output '(.type | split(":") | last) as $kind |
		if $kind == "insufficient" then
			"not enough stock. Product \"\(.product_id)\": " +
			"wanted \(.wanted), available \(.available)."
		elif $kind == "shortfall" then
			"too late, refund the payment"
		else
			"refused, \(.sqlstate // $kind): \(.detail)"
		end' <<<"$answer"
}

# Reserves the lines of an order, all of them or none: ORDER USER KEY ITEMS
checkout()
{
	local body too_many

	body=$(jq --null-input --arg order "$1" --arg user "$2" \
		--argjson items "$4" \
		'{order_id: $order, user_id: $user, items: $items}')
	post /orders "$body" --header "Idempotency-Key: $3"
	if ((status != 200 && status != 201)); then
		refusal
		return
	fi
	too_many=$(jq --raw-output --argjson max "$pieces_max" \
		'[.lines[] | select(.granted > $max).product_id] | first // empty' \
		<<<"$answer")
	if [[ -n $too_many ]]; then
		post "/orders/$(escape "$1")/release" '{"reason": "too many"}'
		printf 'at most %d of %s, nothing was reserved\n' "$pieces_max" \
			"$too_many"
		return
	fi
	jq --raw-output '"reserved " +
		([.lines[] | "\(.granted) of \(.product_id)"] | join(", ")) +
		if .replayed then ", as before" else "" end' <<<"$answer"
}

# The payment has arrived, sells what is reserved, or refunds it: ORDER PAYMENT
pay()
{
	post "/orders/$(escape "$1")/confirm" \
		"$(jq --null-input --arg payment "$2" '{payment_id: $payment}')"
	if ((status != 200)); then
		refusal
		return
	fi
	jq --raw-output '"paid" + if .replayed then ", as before" else "" end' \
		<<<"$answer"
}

while IFS=$'\t' read -r verb order rest; do
	IFS=$'\t' read -r -a arguments <<<"$rest"
	text=$("$verb" "$order" "${arguments[@]}") || exit 1
	printf '%s: %s\n' "$order" "$text"
done
