--
-- encoding: in a database of another encoding than UTF8 whatever Kafka brings
-- ends as in any other, and what the encoding lacks is poison that says so
--
\getenv abs_srcdir PG_ABS_SRCDIR
\set each :abs_srcdir '/sql/encoding_each.psql'
CREATE DATABASE pgstock_latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0;
CREATE DATABASE pgstock_euc_jp ENCODING 'EUC_JP' LOCALE 'C' TEMPLATE template0;
CREATE DATABASE pgstock_sql_ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0;
\set home :DBNAME
\c pgstock_latin1
\i :each
\c pgstock_euc_jp
\i :each
\c pgstock_sql_ascii
\i :each
\c :home
DROP DATABASE pgstock_latin1;
DROP DATABASE pgstock_euc_jp;
DROP DATABASE pgstock_sql_ascii;
