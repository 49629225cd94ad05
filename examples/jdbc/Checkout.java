// SPDX-License-Identifier: PostgreSQL

import static java.nio.charset.StandardCharsets.UTF_8;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ThreadLocalRandom;
import java.util.stream.Collectors;
import javax.sql.DataSource;
import org.postgresql.util.PSQLException;

/**
 * A shop's checkout with pgstock, by JDBC.
 *
 * An order and its reservation are one transaction.  Reads requests from
 * standard input and prints an answer to each: see ../README.md.
 * DATABASE_URL names the database.
 */
public class Checkout {
    /** The shop's own rule: pieces of one product in an order. */
    static final int PIECES_MAX = 5;
    /** 6 seconds in all. */
    static final int TRIES = 8;
    static final Set<String> RUN_AGAIN =
        Set.of("40001", "40P01", "57P01", "57P02", "57P03");

    record Reserved(String product, long granted, boolean replayed) {}

    record Paid(boolean late, boolean replayed) {}

    interface Work<T> {
        T run(Connection conn) throws SQLException;
    }

    /** The order breaks the shop's own rule. */
    static class TooMany extends RuntimeException {
        private static final long serialVersionUID = 1;

        TooMany(String product) {
            super("at most " + PIECES_MAX + " of " + product
                + ", nothing was reserved");
        }
    }

    /** Writes an order and reserves its stock: both or neither. */
    static List<Reserved> checkout(Connection conn, String order, String user,
            String key, String items) throws SQLException {
        try (PreparedStatement insert = conn.prepareStatement(
                "INSERT INTO orders (id, user_id) VALUES (?, ?)"
                + " ON CONFLICT (id) DO NOTHING")) {
            insert.setString(1, order);
            insert.setString(2, user);
            insert.executeUpdate();
        }
        List<Reserved> lines = new ArrayList<>();
        try (PreparedStatement reserve = conn.prepareStatement(
                "SELECT product_id, granted, replayed FROM reserve_order("
                + "?, ?::jsonb, user_id => ?, idempotency_key => ?)")) {
            reserve.setString(1, order);
            reserve.setString(2, items);
            reserve.setString(3, user);
            reserve.setString(4, key);
            try (ResultSet row = reserve.executeQuery()) {
                while (row.next()) {
                    lines.add(new Reserved(row.getString(1), row.getLong(2),
                        row.getBoolean(3)));
                }
            }
        }
        for (Reserved line : lines) {
            if (line.granted > PIECES_MAX) {
                throw new TooMany(line.product); // undoes all of it
            }
        }
        return lines;
    }

    /** The payment has arrived: sells what is reserved, or has it refunded. */
    static Paid pay(Connection conn, String order, String payment)
            throws SQLException {
        boolean late = false;
        boolean replayed = false;
        try (PreparedStatement confirm = conn.prepareStatement(
                "SELECT status, replayed FROM confirm_stock(?, ?)")) {
            confirm.setString(1, order);
            confirm.setString(2, payment);
            try (ResultSet row = confirm.executeQuery()) {
                while (row.next()) {
                    late |= row.getString(1).equals("shortfall");
                    replayed = row.getBoolean(2);
                }
            }
        }
        try (PreparedStatement update = conn.prepareStatement(
                "UPDATE orders SET state = ? WHERE id = ?")) {
            update.setString(1, late ? "refund" : "paid");
            update.setString(2, order);
            update.executeUpdate();
        }
        return new Paid(late, replayed);
    }

    /**
     * Runs work in a transaction, and again if that may help.
     *
     * A connection that was lost during COMMIT does not show whether the
     * transaction was committed: work must have the same effect once or
     * twice, as checkout has by its key, and pay by the order's state.
     */
    static <T> T inTransaction(DataSource pool, Work<T> work)
            throws SQLException, InterruptedException {
        for (int attempt = 1; ; attempt++) {
            try {
                return tryOnce(pool, work);
            } catch (SQLException error) {
                if (attempt == TRIES || !isTransient(error)) {
                    throw error;
                }
            }
            long wait = 50L << attempt;
            Thread.sleep(ThreadLocalRandom.current()
                .nextLong(wait / 2, wait));
        }
    }

    static <T> T tryOnce(DataSource pool, Work<T> work) throws SQLException {
        try (Connection conn = pool.getConnection()) {
            try {
                T result = work.run(conn);
                conn.commit();
                return result;
            } catch (SQLException | RuntimeException error) {
                try {
                    conn.rollback();
                } catch (SQLException lost) {
                    error.addSuppressed(lost);
                }
                throw error;
            }
        }
    }

    /** Whether the same transaction may succeed when it is run again. */
    static boolean isTransient(SQLException error) {
        String state = error.getSQLState();
        return state == null // not an answer of the server
            || state.startsWith("08") || RUN_AGAIN.contains(state);
    }

    /** Handles a request; what to tell the customer. */
    static String answer(DataSource pool, String[] f)
            throws SQLException, InterruptedException {
        try {
            String text;
            boolean replayed;
            if (f[0].equals("checkout")) {
                List<Reserved> lines = inTransaction(pool,
                    conn -> checkout(conn, f[1], f[2], f[3], f[4]));
                replayed = lines.get(0).replayed;
                text = "reserved " + lines.stream()
                    .map(line -> line.granted + " of " + line.product)
                    .collect(Collectors.joining(", "));
            } else {
                Paid paid = inTransaction(pool,
                    conn -> pay(conn, f[1], f[2]));
                replayed = paid.replayed;
                text = paid.late ? "too late, refund the payment" : "paid";
            }
            return text + (replayed ? ", as before" : "");
        } catch (TooMany error) {
            return error.getMessage();
        } catch (PSQLException error) {
            var server = error.getServerErrorMessage();
            if (server == null || isTransient(error)) {
                throw error;
            }
            if (error.getSQLState().equals("SK001")) {
                return "not enough stock. " + server.getDetail();
            }
            return "refused, " + error.getSQLState() + ": "
                + server.getMessage();
        }
    }

    public static void main(String[] args)
            throws IOException, SQLException, InterruptedException {
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl("jdbc:" + System.getenv("DATABASE_URL"));
        config.setMaximumPoolSize(4);
        config.setAutoCommit(false);
        config.setConnectionTimeout(5000);
        PrintStream out = new PrintStream(System.out, true, UTF_8);
        try (HikariDataSource pool = new HikariDataSource(config);
                BufferedReader input = new BufferedReader(
                    new InputStreamReader(System.in, UTF_8))) {
            String line;
            while ((line = input.readLine()) != null) {
                String[] request = line.split("\t", -1);
                out.println(request[1] + ": " + answer(pool, request));
            }
        }
    }
}
