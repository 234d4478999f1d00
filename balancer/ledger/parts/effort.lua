-- Effort: what the ladder of cells expects of a task. Twin of core/effort.py.
local KINDS, STEMS = {}, {}
-- So many observations are few: an estimate with fewer behind it is made anew when its task becomes ready.
local FEW = 20

-- What tasks of a lane have in common whatever their group and features: the three widest cells of the ladder, which hold a role and category.
local function stem_of(basis, t, category)
  local key = basis .. t.lane
  local stem = STEMS[key]
  if stem then return stem end
  local role = basis .. ':' .. t.role
  local own = role .. ':' .. category
  -- What producers say may be nonsense, which must not spoil what others say: no work counts as more than a hundred times off.
  local is_said = basis == 'e'
  stem = { basis = wide_cell(basis), of_role = wide_cell(role, t.role), own = cell(own), name = own, role = t.role, category = category,
    most_x = is_said and 4.605170185988092 or 25, most_var = is_said and 1 or math.huge }
  STEMS[key] = stem
  return stem
end

-- What a task of this lane and effort (basis|group|features; nil is m||) has in common with others: its stem, and the narrower cells.
local function kind_of(t, category)
  local effort = t.effort
  local key = effort and t.lane .. '|' .. effort or t.lane
  local kind = KINDS[key]
  if kind then return kind end
  local basis, group, features = 'm', '', ''
  if effort then basis, group, features = string.match(effort, '^(%a)|(%x*)|(%x*)$') end
  local stem = stem_of(basis, t, category)
  local own = stem.name
  -- Made whole at once: a table that grows is built anew each time, and a call may bring hundreds of kinds.
  if group == '' and features == '' then
    kind = { stem = stem, tries = false, packed = false, factor = 0 }
  elseif features == '' then
    kind = { cell(basis .. '::' .. group), cell(own .. ':' .. group), stem = stem, tries = false, packed = false, factor = 0 }
  elseif group == '' then
    kind = { cell(own .. '::' .. features), stem = stem, tries = false, packed = false, factor = 0 }
  else
    local grouped = own .. ':' .. group
    kind = { cell(basis .. '::' .. group), cell(grouped), cell(own .. '::' .. features), cell(grouped .. ':' .. features), stem = stem, tries = false, packed = false, factor = 0 }
  end
  KINDS[key] = kind
  return kind
end

-- What is left when the ladder has spoken.
local function variance(stem)
  local w, wider = WIDE[stem.of_role], WIDE[stem.basis]
  return (w.n2 * w.var + 3 * wider.var) / (w.n2 + 3)
end

-- By how much means lie above what the ladder says of logarithms: as much as was seen of the role, never more than a log-normal spread says.
local function lift(stem, var)
  local most, w = math.exp(math.min(var, 4) / 2), WIDE[stem.of_role]
  -- Of a role that has finished nothing as much as other roles may teach it: their first guesses may have been far off.
  if w.median == 0 then return math.min(most, 4) end
  return math.max(1, math.min(most, (w.n2 * w.work / w.median + 20 * most) / (w.n2 + 20)))
end

-- What the stem says: of ln(work / prior), and how far expectation and p90 lie above that. The cells have been read.
local function hear(stem)
  local basis, of_role, own = stem.basis, stem.of_role, stem.own
  -- Other roles may do other work: they teach a role that has finished nothing a factor of 4 at most.
  local mean = math.max(-1.3862943611198906, math.min(1.3862943611198906, N[basis] * MEAN[basis] / (N[basis] + 0.1)))
  mean = (N[of_role] * MEAN[of_role] + 0.1 * mean) / (N[of_role] + 0.1)
  stem.mean = (N[own] * MEAN[own] + 3 * mean) / (N[own] + 3)
  local var = math.min(variance(stem), stem.most_var)
  stem.lift, stem.tail = lift(stem, var), math.exp(1.2816 * math.sqrt(var))
  stem.seen = N[own] > 0 and N[own] or N[of_role]
end

local function log_factor(kind)
  local stem = kind.stem
  if not stem.mean then hear(stem) end
  local mean = stem.mean
  for j = 1, #kind do
    local n = N[kind[j]]
    mean = (n * MEAN[kind[j]] + 3 * mean) / (n + 3)
  end
  return mean
end

local function bounded_ms(ms) return math.floor(math.max(1, math.min(31536000000, ms)) + 0.5) end

-- est_ms|p90_ms|n|prior_ms, as a task keeps it. The cells have been read.
local function estimate_of(kind, prior_ms)
  if not kind.packed then kind.packed, kind.factor = {}, math.exp(log_factor(kind)) end
  local packed, stem = kind.packed[prior_ms], kind.stem
  if not packed then
    local ms = prior_ms * kind.factor
    packed = string.format('%d|%d|%d|%d', bounded_ms(ms * stem.lift), bounded_ms(ms * stem.tail), stem.seen, prior_ms)
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
