-- Effort: the ladder's cells, read once a call, and what they expect of a task. Twin of core/effort.py.
local CELLS, UNREAD, KINDS = {}, {}, {}
-- So many observations are few: an estimate with fewer behind it is made anew when its task becomes ready.
local FEW = 20

local function cell(name)
  local c = CELLS[name]
  if not c then
    -- n2 and var: of what the ladder left unexplained; scored: the mean when the waiting tasks were last scored; work and median: how long
    -- tasks took, and what the ladder alone had said, ms.
    c = { name = name, n = 0, mean = 0, n2 = 0, var = 0, scored = 0, work = 0, median = 0 }
    CELLS[name] = c
    UNREAD[#UNREAD + 1] = c
  end
  return c
end

-- What a task of this lane and effort (basis|group|features; nil is m||) has in common with others: its cells, the widest first.
local function kind_of(t, category)
  local key = t.effort and t.lane .. '|' .. t.effort or t.lane
  local kind = KINDS[key]
  if kind then return kind end
  local basis, group, features = string.match(t.effort or 'm||', '^(%a)|(%x*)|(%x*)$')
  local role = basis .. ':' .. t.role
  local own = role .. ':' .. category
  kind = { cell(basis), cell(role), cell(own), role = t.role, category = category, packed = {} }
  -- What producers say may be nonsense, which must not spoil what others say: no work counts as more than a hundred times off.
  kind.most_x, kind.most_var = basis == 'e' and 4.605170185988092 or 25, basis == 'e' and 1 or math.huge
  local function add(name) kind[#kind + 1] = cell(name) end
  if group ~= '' then
    add(basis .. '::' .. group)
    add(own .. ':' .. group)
  end
  if features ~= '' then add(own .. '::' .. features) end
  if group ~= '' and features ~= '' then add(own .. ':' .. group .. ':' .. features) end
  KINDS[key] = kind
  return kind
end

-- Reads cells from one generation; those that it does not have.
local function read_from(key, cells)
  local names, missing = {}, {}
  for i, c in ipairs(cells) do names[i] = c.name end
  for i, text in ipairs(redis.call('HMGET', key, unpack(names))) do
    local c = cells[i]
    if text then
      local n, mean, n2, var, scored, work, median = string.match(text, '^(%d+) (%S+) ?(%S*) ?(%S*) ?(%S*) ?(%S*) ?(%S*)$')
      c.n, c.mean = tonumber(n) or 0, tonumber(mean) or 0
      c.n2, c.var, c.scored = tonumber(n2) or 0, tonumber(var) or 0, tonumber(scored) or 0
      c.work, c.median = tonumber(work) or 0, tonumber(median) or 0
    else
      missing[#missing + 1] = c
    end
  end
  return missing
end

local HAS_NEW_CELLS = false
local function read_cells()
  if #UNREAD == 0 then return end
  local missing = read_from(K.est, UNREAD)
  if #missing > 0 then
    HAS_NEW_CELLS = true
    read_from(K.est_old, missing)
  end
  UNREAD = {}
end

local function log_factor(kind)
  local wide, of_role = kind[1], kind[2]
  -- Other roles may do other work: they teach a role that has finished nothing a factor of 4 at most.
  local mean = math.max(-1.3862943611198906, math.min(1.3862943611198906, wide.n * wide.mean / (wide.n + 0.1)))
  mean = (of_role.n * of_role.mean + 0.1 * mean) / (of_role.n + 0.1)
  for i = 3, #kind do
    local c = kind[i]
    mean = (c.n * c.mean + 3 * mean) / (c.n + 3)
  end
  return mean
end

local function variance(kind)
  local of_role = kind[2]
  return (of_role.n2 * of_role.var + 3 * kind[1].var) / (of_role.n2 + 3)
end

-- By how much means lie above what the ladder says of logarithms: as much as was seen of the role, never more than a log-normal spread says.
local function lift(kind, var)
  local most, c = math.exp(math.min(var, 4) / 2), kind[2]
  if c.median == 0 then return most end
  return math.max(1, math.min(most, (c.n2 * c.work / c.median + 20 * most) / (c.n2 + 20)))
end

local function bounded_ms(ms) return math.floor(math.max(1, math.min(31536000000, ms)) + 0.5) end

-- est_ms|p90_ms|n|prior_ms, as a task keeps it. The cells have been read.
local function estimate_of(kind, prior_ms)
  local packed = kind.packed[prior_ms]
  if not packed then
    local mean, var = log_factor(kind), math.min(variance(kind), kind.most_var)
    packed = string.format('%d|%d|%d|%d', bounded_ms(prior_ms * math.exp(mean) * lift(kind, var)),
      bounded_ms(prior_ms * math.exp(mean + 1.2816 * math.sqrt(var))), kind[3].n > 0 and kind[3].n or kind[2].n, prior_ms)
    kind.packed[prior_ms] = packed
  end
  return packed
end

-- Estimates a stored task anew, if little was known when that was done last, or whatever was.
local function renew(t, whatever)
  local n, prior_ms = string.match(t.e, '^%d+|%d+|(%d+)|(%d+)$')
  if tonumber(n) >= FEW and not whatever then return end
  local kind = kind_of(t, t.category)
  read_cells()
  local e = estimate_of(kind, tonumber(prior_ms))
  if e ~= t.e then redis.call('HSET', k_task(t.id), 'e', e) end
  t.e = e
end
