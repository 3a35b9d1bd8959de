-- nkeys.lua - keys, tokens and certificates for a NATS server, made by openssl.
local nkeys = {}

-- The first byte of an encoded key, by the kind of its owner.
local PREFIX <const> = { operator = 14 << 3, account = 0, user = 20 << 3 }
local SEED <const> = 18 << 3
local BASE32 <const> = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
local BASE64 <const> = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

-- Encode `bytes` with these digits, each for `bits` bits, without padding.
local function encode(bytes, digits, bits)
  local out, value, n = {}, 0, 0
  for i = 1, #bytes do
    value, n = value << 8 | bytes:byte(i), n + 8
    while n >= bits do
      n = n - bits
      local digit = value >> n & (1 << bits) - 1
      out[#out + 1] = digits:sub(digit + 1, digit + 1)
    end
    value = value & (1 << n) - 1
  end
  if n > 0 then
    local digit = value << bits - n
    out[#out + 1] = digits:sub(digit + 1, digit + 1)
  end
  return table.concat(out)
end

local function checksum(bytes) -- CRC-16/XMODEM
  local crc = 0
  for i = 1, #bytes do
    crc = crc ~ bytes:byte(i) << 8
    for _ = 1, 8 do
      crc = (crc & 0x8000 ~= 0 and crc << 1 ~ 0x1021 or crc << 1) & 0xffff
    end
  end
  return crc
end

local function key(bytes)
  return encode(bytes .. ("<I2"):pack(checksum(bytes)), BASE32, 5)
end

---Make a key pair of an operator, an account or a user. The file `name`.pem in `dir` has the
---private key.
---@return {public: string, seed: string, file: string}
function nkeys.pair(t, dir, name, whose)
  local file = ("%s/%s.pem"):format(dir, name)
  -- For Ed25519, the DER forms of both keys end with the 32 bytes of the key.
  local private = t.shell(("openssl genpkey -algorithm ed25519 -out %s; openssl pkey -in %s \z
    -outform DER | tail -c 32"):format(file, file))
  local public = t.shell(("openssl pkey -in %s -pubout -outform DER | tail -c 32"):format(file))
  local prefix = PREFIX[whose]
  return { file = file, public = key(string.char(prefix) .. public),
    seed = key(string.char(SEED | prefix >> 5, (prefix & 31) << 3) .. private) }
end

---A token of `issuer` about `subject`; `claims` is the JSON text of its field nats.
function nkeys.token(t, dir, issuer, subject, claims)
  local head = encode('{"typ":"JWT","alg":"ed25519-nkey"}', BASE64, 6)
  local body = encode(('{"jti":"x","iat":%d,"iss":"%s","name":"test","sub":"%s","nats":%s}'):format(
    os.time(), issuer.public, subject.public, claims), BASE64, 6)
  local path = dir .. "/text"
  local file <close> = io.open(path, "wb")
  file:write(head, ".", body)
  file:close()
  local signature = t.shell(("openssl pkeyutl -sign -rawin -inkey %s -in %s"):format(
    issuer.file, path))
  return ("%s.%s.%s"):format(head, body, encode(signature, BASE64, 6))
end

---Make ca.pem, and server.pem with server.key for the name `host`, in `dir`.
---@param names? string what server.pem is valid for; the default is the host
---@param days? integer how long server.pem is valid
function nkeys.certificates(t, dir, host, names, days)
  t.shell(([[cd %s
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
      -subj '/CN=test' -keyout ca.key -out ca.pem
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '/CN=%s' \
      -keyout server.key -out server.csr
    echo 'subjectAltName=%s' >ext
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days %d \
      -extfile ext -out server.pem]]):format(dir, host, names or "DNS:" .. host, days or 2))
end

return nkeys
