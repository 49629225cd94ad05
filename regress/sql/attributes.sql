--
-- attributes: members of a message that look like a card number or a secret do
-- not enter an event
--
SELECT receive_stock('attr', 1000);
-- The attributes of the event that answers an order-created with this member.
CREATE SEQUENCE attr_order;
CREATE FUNCTION attributes_of(member text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	own	text := 'attr-' || nextval('attr_order');
BEGIN
	PERFORM * FROM apply(jsonb_build_array(jsonb_build_object('topic', 'order-created', 'text',
		format('{"order_id": "%s", "items": [{"product_id": "attr", "quantity": 1}], %s}', own, member))));
	RETURN (SELECT convert_from(o.payload, 'UTF8')::json->>'attributes' FROM pgstock_internal.outbox o
			 WHERE o.aggregateid = convert_to(own, 'UTF8'));
END
$$;
-- the names of secrets, by word, in any spelling
SELECT name, attributes_of(format('"%s": "v"', name)) FROM unnest('{card,Card,cardNumber,card_number,CARD-NO,card1,creditcard,
	pan,PANCode,user.pan,cvv,cvv2,CVC,iban,ibanOfPayer,pin,pwd,ssn,password,userPassword,Password2,pass word,pas-sword,
	accessToken,TOKEN,token_type,clientSecret,api_key,x-api-key,Authorization,c\\u0061rd}'::text[]) AS n (name);
SELECT name, attributes_of(format('"%s": "v"', name)) FROM unnest('{auth,authCode,jwt,Cookie,cookies,session_id,SessionID,passcode,author,session,cookieless}'::text[]) AS n (name);
-- and names that only resemble them
SELECT name, attributes_of(format('"%s": "v"', name)) FROM unnest('{cardinality,discard,panel,company,japan,spin,pinned,cvvx,ribbon,
	gift,note,a,é,""}'::text[]) AS n (name);
-- card numbers, as strings, as numbers, in groups, within a text, at any depth
SELECT value, attributes_of(format('"v": %s', value)) FROM unnest(ARRAY['"4111111111111111"', '4111111111111111', '"4111 1111 1111 1111"',
	'"4111-1111-1111-1111"', '"3782 822463 10005"', '378282246310005', '"6011000990139424 12/29"', '"to 5555555555554444."', '4222222222222',
	'"\u0034111111111111111"', '[1, "4111111111111111"]', '{"a": [{"b": 4111111111111111}]}', '{"a": {"cardNo": 1}}', '"x_4111111111111111"',
	'6304000000000000000', '4111111111111111.5']) AS v (value);
-- secrets by their form; JSON in a string, also twice
SELECT value, attributes_of(format('"v": %s', value)) FROM unnest(ARRAY['"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.x"', '"Bearer abcdef"', '"bearer x"', '"-----BEGIN PRIVATE KEY-----\nMII"', '["a", "eyJ.x"]',
	'"4111.1111.1111.1111"', '"{\"password\": \"x\"}"', '"[{\"a\": 4111111111111111}]"', '"{\"a\": \"{\\\"pin\\\": 1}\"}"',
	'"{\"a\": \"b\"}"', '"{\"a"', '"{\\"', '"eyJ"', '"the bearer"', '"BEGIN"', '"1.2.3.4"', '"{"']) AS v (value);
-- what is none: another check digit, another beginning, too short or too long,
-- a part of a word, a phone number
SELECT value, attributes_of(format('"v": %s', value)) FROM unnest(ARRAY['"4111111111111112"', '1764304800008', '"1234567812345670"', '411111111111',
	'"41111111111111111111"', '"a4111111111111111"', '"4111111111111111b"', '"+4111111111111111"', '"4111,1111,1111,1111"',
	'"5e6fbd5f-4111-1111-1111-111111111111"', '[4111, 1111, 1111, 1111]', 'true', 'null', '1.5', '""', '"\""',
	'"\\"', '[]']) AS v (value);
-- behind other groups of digits, or before them;
-- and long rows of groups that are none
SELECT value, attributes_of(format('"v": "%s"', value)) FROM unnest(ARRAY['2025 4111 1111 1111 1111', '2025-4111-1111-1111-1111-2026', '123456 12345 1234 5500000000000004',
	'4111 1111 1111 1111 2025 2026 2027', '2025 2026 2027 2028 2029 3782 822463 10005', '12345678 4111 1111 1111 1111', '2025 6304000000000000000']) AS v (value);
SELECT value, attributes_of(format('"v": "%s"', value)) FROM unnest(ARRAY['2025 4111 1111 1111 1112', '20254111111111111111', '2025 41111111111111111111', '1234 1234 1234 1234 1234 1234 1234 1234 1234',
	'2025 41 11 1111 1111 1111', '2025 a4111 1111 1111 1111', '2025  +4111111111111111', '1111-4111-1111-1111-111111111111']) AS v (value);
-- only that member is left out
SELECT attributes_of('"channel": "app", "card": {"pan": "x", "exp": "12/29"}, "pan": 1 , "n": 1.50');
SELECT attributes_of('"token": 1, "note": "my password is x"');
-- another order that expires, so that its stock can be reserved,
-- has nothing of the message
SELECT receive_stock('attr-one', 1);
SELECT status FROM reserve_stock('attr-one', 1, 'attr-due');
SELECT make_due('attr-due');
SELECT apply_one('order-created', '{"order_id": "attr-next", "event_id": "attr-e1", "gift": true, "items": [{"product_id": "attr-one", "quantity": 1}]}');
SELECT key, event_type, payload -> 'causation_id' AS causation_id, payload -> 'attributes' AS attributes FROM stock_outbox WHERE key IN ('attr-due', 'attr-next') ORDER BY seq;
-- the same for a purchase, where the caller gives them
SELECT open_flash_sale('attr-sale', 'attr', 10, 10);
SELECT status FROM purchase_flash_sale('attr-sale', 'ann', 'attr-b1', 1, '{"price": 9.90, "channel": {"a": [1, "x"]}, "cardNumber": "x", "ref": "4111111111111111"}');
SELECT status FROM purchase_flash_sale('attr-sale', 'ann', 'attr-b2', attributes => '{"token": 1}');
SELECT status FROM purchase_flash_sale('attr-sale', 'ann', 'attr-b3', attributes => '{}');
SELECT status, replayed FROM purchase_flash_sale('attr-sale', 'ann', 'attr-b1', 1, '{"price": 1}');
SELECT key, convert_from(o.payload, 'UTF8')::json->>'attributes' AS attributes FROM stock_outbox s JOIN pgstock_internal.outbox o USING (seq) WHERE key ~ '^attr-b' ORDER BY seq;
SELECT outcome_of($$SELECT purchase_flash_sale('attr-sale', 'ann', 'attr-b4', 1, '[]')$$), outcome_of($$SELECT purchase_flash_sale('attr-sale', 'ann', 'attr-b4', 1, '7')$$);
-- the event of another order that a purchase
-- expires has not the purchase's attributes
SELECT make_due('attr-b2');
SELECT status FROM purchase_flash_sale('attr-sale', 'bob', 'attr-b5', 8, '{"price": 2}');
SELECT key, event_type, payload->'attributes' AS attributes FROM stock_outbox WHERE key IN ('attr-b2', 'attr-b5') ORDER BY seq;
-- attributes that are too large are left out
SELECT status FROM purchase_flash_sale('attr-sale', 'cat', 'attr-b6', 1, jsonb_build_object('note', repeat('x', 2000000)));
SELECT status FROM release_stock('attr-b5');
SELECT status FROM purchase_flash_sale('attr-sale', 'cat', 'attr-b6', 1, jsonb_build_object('note', repeat('x', 2000000)));
SELECT payload->'cut' AS cut, payload ? 'attributes' AS attributes FROM stock_outbox WHERE key = 'attr-b6';
SELECT close_flash_sale('attr-sale');
DROP FUNCTION attributes_of;
DROP SEQUENCE attr_order;
