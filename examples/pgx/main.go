// SPDX-License-Identifier: PostgreSQL

// A shop's checkout with pgstock, by pgx.
//
// An order and its reservation are one transaction.  Reads requests from
// standard input and prints an answer to each: see ../README.md.
// DATABASE_URL names the database.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	piecesMax = 5 // the shop's own rule: of one product in an order
	tries     = 8 // 6 seconds in all
)

type reserved struct {
	Product  string
	Granted  int64
	Replayed bool
}

type confirmed struct {
	Status   string
	Replayed bool
}

// tooMany: the order breaks the shop's own rule.
type tooMany struct{ product string }

func (e tooMany) Error() string {
	return fmt.Sprintf("at most %d of %s, nothing was reserved", piecesMax, e.product)
}

// checkout writes an order and reserves its stock: both or neither.
func checkout(ctx context.Context, tx pgx.Tx, order, user, key, items string) ([]reserved, error) {
	_, err := tx.Exec(ctx, `INSERT INTO orders (id, user_id) VALUES ($1, $2)
		ON CONFLICT (id) DO NOTHING`, order, user)
	if err != nil {
		return nil, err
	}
	// Query's own error is also that of its rows
	rows, _ := tx.Query(ctx, `SELECT product_id, granted, replayed FROM reserve_order(
		$1, $2::jsonb, user_id => $3, idempotency_key => $4)`, order, items, user, key)
	lines, err := pgx.CollectRows(rows, pgx.RowToStructByPos[reserved])
	if err != nil {
		return nil, err
	}
	for _, line := range lines {
		if line.Granted > piecesMax {
			return nil, tooMany{line.Product} // undoes all of it
		}
	}
	return lines, nil
}

// pay sells what is reserved, since the payment has arrived, or has it refunded.
func pay(ctx context.Context, tx pgx.Tx, order, payment string) (late, replayed bool, err error) {
	rows, _ := tx.Query(ctx, "SELECT status, replayed FROM confirm_stock($1, $2)", order, payment)
	lines, err := pgx.CollectRows(rows, pgx.RowToStructByPos[confirmed])
	if err != nil {
		return false, false, err
	}
	state := "paid"
	for _, line := range lines {
		if line.Status == "shortfall" {
			late, state = true, "refund"
		}
	}
	_, err = tx.Exec(ctx, "UPDATE orders SET state = $2 WHERE id = $1", order, state)
	return late, lines[0].Replayed, err
}

// inTransaction calls work in a transaction, and again if that may help.
//
// A connection that was lost during COMMIT does not show whether the
// transaction was committed: work must have the same effect once or twice, as
// checkout has by its key, and pay by the order's state.
func inTransaction(ctx context.Context, pool *pgxpool.Pool, work func(pgx.Tx) error) error {
	for attempt := 1; ; attempt++ {
		err := pgx.BeginFunc(ctx, pool, work) // COMMIT, or ROLLBACK
		if err == nil || attempt == tries || !isTransient(err) {
			return err
		}
		wait := 50 * time.Millisecond << attempt
		time.Sleep(wait/2 + rand.N(wait/2))
	}
}

// isTransient reports whether the same transaction may succeed when it is run
// again.
func isTransient(err error) bool {
	var refusal tooMany
	if errors.As(err, &refusal) {
		return false
	}
	var failure *pgconn.PgError
	if !errors.As(err, &failure) {
		return true // not an answer of the server: the connection was lost
	}
	switch failure.Code {
	case "40001", "40P01", "57P01", "57P02", "57P03":
		return true
	}
	return strings.HasPrefix(failure.Code, "08")
}

// answer handles a request and returns what to tell the customer.
func answer(ctx context.Context, pool *pgxpool.Pool, verb string, f []string) (string, error) {
	var text string
	var replayed bool
	err := inTransaction(ctx, pool, func(tx pgx.Tx) error {
		if verb == "checkout" {
			lines, err := checkout(ctx, tx, f[0], f[1], f[2], f[3])
			if err != nil {
				return err
			}
			var parts []string
			for _, line := range lines {
				parts = append(parts, fmt.Sprintf("%d of %s", line.Granted, line.Product))
			}
			text, replayed = "reserved "+strings.Join(parts, ", "), lines[0].Replayed
			return nil
		}
		late, again, err := pay(ctx, tx, f[0], f[1])
		text, replayed = "paid", again
		if late {
			text = "too late, refund the payment"
		}
		return err
	})
	var refusal tooMany
	var failure *pgconn.PgError
	switch {
	case errors.As(err, &refusal):
		return refusal.Error(), nil
	case err != nil && isTransient(err):
		return "", err
	case errors.As(err, &failure) && failure.Code == "SK001":
		return "not enough stock. " + failure.Detail, nil
	case errors.As(err, &failure):
		return fmt.Sprintf("refused, %s: %s", failure.Code, failure.Message), nil
	case replayed:
		return text + ", as before", nil
	}
	return text, err
}

func main() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		request := strings.Split(input.Text(), "\t")
		text, err := answer(ctx, pool, request[0], request[1:])
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %s\n", request[1], text)
	}
	if err := input.Err(); err != nil {
		log.Fatal(err)
	}
}
