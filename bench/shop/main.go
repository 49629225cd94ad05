// SPDX-License-Identifier: PostgreSQL

// The gateway's reservation in a small service as a shop would write it: a pool
// of 16 sessions, one call of reserve_stock a request.  bench/over_http.py
// compares the gateway with it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

type reservation struct {
	OrderID  string  `json:"order_id"`
	Quantity int64   `json:"quantity"`
	UserID   *string `json:"user_id"`
}

type line struct {
	ProductID string     `json:"product_id"`
	Location  string     `json:"location"`
	Requested int64      `json:"requested"`
	Granted   int64      `json:"granted"`
	Status    string     `json:"status"`
	Available int64      `json:"available"`
	ExpiresAt *time.Time `json:"expires_at"`
	Version   int64      `json:"version"`
}

type answer struct {
	OrderID  string `json:"order_id"`
	Replayed bool   `json:"replayed"`
	Lines    []line `json:"lines"`
}

const call = `SELECT order_id, product_id, location, requested, granted, status,
	available, expires_at, version, replayed
	FROM reserve_stock($1, $2, $3, $4)`

func reserve(pool *pgxpool.Pool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var asked reservation
		var l line
		var a answer

		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		err := pool.QueryRow(r.Context(), call, r.PathValue("id"),
			asked.Quantity, asked.OrderID, asked.UserID).Scan(&a.OrderID,
			&l.ProductID, &l.Location, &l.Requested, &l.Granted, &l.Status,
			&l.Available, &l.ExpiresAt, &l.Version, &a.Replayed)
		if err != nil {
			var pg *pgconn.PgError
			status := http.StatusInternalServerError
			if errors.As(err, &pg) && pg.Code == "SK001" {
				status = http.StatusConflict
			}
			http.Error(w, err.Error(), status)
			return
		}
		a.Lines = []line{l}
		w.Header().Set("Content-Type", "application/json")
		if !a.Replayed {
			w.WriteHeader(http.StatusCreated)
		}
		json.NewEncoder(w).Encode(a)
	}
}

func main() {
	config, err := pgxpool.ParseConfig(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	config.MaxConns = 16
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /products/{id}/stock/reserve", reserve(pool))
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := pool.Ping(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	log.Fatal(http.ListenAndServe(os.Args[1], mux))
}
