// SPDX-License-Identifier: PostgreSQL

// A shop's checkout over HTTP, by Go's own client.
//
// Reads requests from standard input and prints an answer to each: see
// ../README.md.  GATEWAY_URL names the gateway, GATEWAY_TOKEN is its access
// token.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	piecesMax = 5 // the shop's own rule: of one product in an order
	tries     = 8 // about 10 seconds in all
)

var client = http.Client{Timeout: 30 * time.Second}

// Of an answer, the members that are used here; of a problem too.
type answer struct {
	Replayed bool
	Lines    []struct {
		ProductID string `json:"product_id"`
		Granted   int64
	}
	Type      string
	Detail    string
	SQLState  string
	ProductID string `json:"product_id"`
	Wanted    int64
	Available int64
}

// Status and body of the answer to a request.
func try(path, key string, body []byte) (*http.Response, answer, error) {
	var found answer
	request, err := http.NewRequest("POST", os.Getenv("GATEWAY_URL")+path,
		bytes.NewReader(body))
	if err != nil {
		return nil, found, err
	}
	request.Header.Set("Authorization", "Bearer "+os.Getenv("GATEWAY_TOKEN"))
	request.Header.Set("Content-Type", "application/json")
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, found, err
	}
	defer response.Body.Close()
	return response, found, json.NewDecoder(response.Body).Decode(&found)
}

// Posts a request, repeating what may be repeated.
//
// Without an answer it is unknown whether the request took effect: the same
// request, with the same order and key, takes effect once.
func post(path, key string, body map[string]any) (int, answer) {
	text, err := json.Marshal(body)
	if err != nil {
		log.Fatal(err)
	}
	for attempt := 1; ; attempt++ {
		wait := time.Duration((0.5 + rand.Float64()/2) * 50 *
			float64(int(1)<<attempt) * float64(time.Millisecond))
		response, found, err := try(path, key, text)
		if err == nil && response.StatusCode != 429 &&
			response.StatusCode != 503 {
			return response.StatusCode, found
		}
		if attempt == tries {
			log.Fatal("no answer: ", err, found.Detail)
		}
		if err == nil {
			seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
			wait = max(wait, time.Duration(seconds)*time.Second)
		}
		time.Sleep(wait)
	}
}

// Reserves the lines of an order: all of them or none.
func checkout(order, user, key, items string) string {
	status, found := post("/orders", key, map[string]any{
		"order_id": order, "user_id": user, "items": json.RawMessage(items)})
	if status != 200 && status != 201 {
		return refusal(found)
	}
	var reserved []string
	for _, line := range found.Lines {
		if line.Granted > piecesMax {
			post("/orders/"+url.PathEscape(order)+"/release", "",
				map[string]any{"reason": "too many"})
			return fmt.Sprintf("at most %d of %s, nothing was reserved",
				piecesMax, line.ProductID)
		}
		reserved = append(reserved, fmt.Sprintf("%d of %s", line.Granted,
			line.ProductID))
	}
	return "reserved " + strings.Join(reserved, ", ") + again(found)
}

// The payment has arrived: sells what is reserved, or refunds it.
func pay(order, payment string) string {
	status, found := post("/orders/"+url.PathEscape(order)+"/confirm", "",
		map[string]any{"payment_id": payment})
	if status != 200 {
		return refusal(found)
	}
	return "paid" + again(found)
}

func again(found answer) string {
	if found.Replayed {
		return ", as before"
	}
	return ""
}

// What to tell the customer; the type says what it is about.
func refusal(problem answer) string {
	kind := problem.Type[strings.LastIndex(problem.Type, ":")+1:]
	switch kind {
	case "insufficient":
		return fmt.Sprintf(
			"not enough stock. Product \"%s\": wanted %d, available %d.",
			problem.ProductID, problem.Wanted, problem.Available)
	case "shortfall":
		return "too late, refund the payment"
	}
	if problem.SQLState != "" {
		kind = problem.SQLState
	}
	return "refused, " + kind + ": " + problem.Detail
}

func main() {
	requests := bufio.NewScanner(os.Stdin)
	for requests.Scan() {
		request := strings.Split(requests.Text(), "\t")
		var text string
		if request[0] == "checkout" {
			text = checkout(request[1], request[2], request[3], request[4])
		} else {
			text = pay(request[1], request[2])
		}
		fmt.Printf("%s: %s\n", request[1], text)
	}
}
