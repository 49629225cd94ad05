-- SPDX-License-Identifier: PostgreSQL
--
-- over_http.lua - what wrk asks the gateway, and what it prints of it
--
-- Arguments: what (reserve, purchase or a path to GET), the token, how many
-- products there are, and how long each connection pauses in the mean, in ms.
-- Each request is for an order of its own.

local threads = 0

function setup(thread)
	threads = threads + 1
	thread:set("number", threads)
end

function init(args)
	what, token, products = args[1], args[2], tonumber(args[3] or 1)
	pause = tonumber(args[4] or 0)
	math.randomseed(os.time() * 100 + number)
	run = string.format("%x-%x", number, math.random(0, 2 ^ 40))
	count = 0
	if pause > 0 then
		-- set only where it is needed: wrk then waits before each request.
		-- At random, or all connections would ask at the same moment for ever
		delay = function() return math.random(0, 2 * pause) end
	end
end

local function post(path, body)
	return "POST " .. path .. " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
		.. token .. "\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
end

function request()
	count = count + 1
	local id = run .. "-" .. count
	if what == "reserve" then
		return post("/products/p" .. math.random(1, products)
			.. "/stock/reserve", '{"order_id":"' .. id .. '","quantity":1}')
	end
	if what == "purchase" then
		return post("/sales/sale/purchase", '{"order_id":"' .. id
			.. '","user_id":"' .. id .. '"}')
	end
	return "GET " .. what .. " HTTP/1.1\r\nHost: x\r\n\r\n"
end

function done(summary, latency)
	io.write(string.format("FIGURES %d %d %d %d %d %d\n", summary.requests,
		summary.duration, summary.errors.status, summary.errors.connect
		+ summary.errors.read + summary.errors.write + summary.errors.timeout,
		latency:percentile(50), latency:percentile(99)))
end
